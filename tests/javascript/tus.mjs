// Uploads a file with tus-js-client and a machine's own certificate.
//
//     node tus.mjs '{"endpoint": "https://...", "pem": "...", "ca": "...", "file": "...", "fileId": "..."}'
//
// With "uploadUrl" it goes on with an upload. With "dieAt" it kills itself once the server has confirmed so many bytes.
// Prints one object in JSON for each thing that happens.

import fs from 'node:fs';
import * as tus from 'tus-js-client';

const options = JSON.parse(process.argv[2]);
const say = (what) => fs.writeSync(1, `${JSON.stringify(what)}\n`);
const pem = fs.readFileSync(options.pem);

const upload = new tus.Upload(fs.createReadStream(options.file), {
  endpoint: options.endpoint,
  uploadUrl: options.uploadUrl,
  uploadSize: fs.statSync(options.file).size,
  chunkSize: 3 * 1024 * 1024,
  metadata: { file_id: options.fileId },
  retryDelays: null,
  storeFingerprintForResuming: false,
  uploadDataDuringCreation: options.uploadUrl === undefined && options.duringCreation === true,
  // The certificate is the name: what it says of names is not looked at.
  httpStack: new tus.DefaultHttpStack({
    cert: pem, key: pem, ca: fs.readFileSync(options.ca), checkServerIdentity: () => undefined, minVersion: 'TLSv1.3',
  }),
  onUploadUrlAvailable: () => say({ url: upload.url }),
  onChunkComplete: (_, accepted) => {
    say({ accepted });
    if (options.dieAt !== undefined && accepted >= options.dieAt) process.kill(process.pid, 'SIGKILL');
  },
  onError: (error) => {
    say({ status: error.originalResponse?.getStatus() ?? null, error: String(error.message) });
    process.exitCode = 1;
  },
  onSuccess: () => say({ done: true }),
});

upload.start();
