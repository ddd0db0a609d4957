// Sends a new file to the REST API with tus-js-client, as a program on the same machine does, over a bad line.
//
//     node rest.mjs '{"endpoint": "http://...", "token": "...", "via": PORT, "file": "...", "metadata": {...}}'
//
// All of it is one request, which is tried again for as long as it takes. Connections go to the port `via` of loopback,
// whatever the address says. Prints one object in JSON for each thing that happens.

import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import * as tus from 'tus-js-client';

const options = JSON.parse(process.argv[2]);
const say = (what) => fs.writeSync(1, `${JSON.stringify(what)}\n`);
const agent = new http.Agent();
agent.createConnection = () => net.connect(options.via, '127.0.0.1');

const upload = new tus.Upload(fs.createReadStream(options.file), {
  endpoint: options.endpoint,
  uploadSize: fs.statSync(options.file).size,
  metadata: options.metadata,
  headers: { Authorization: `Bearer ${options.token}` },
  retryDelays: Array(1000).fill(200),
  storeFingerprintForResuming: false,
  httpStack: new tus.DefaultHttpStack({ agent }),
  onUploadUrlAvailable: () => say({ url: upload.url }),
  onAfterResponse: (request, response) => say({
    method: request.getMethod(), status: response.getStatus(), offset: Number(response.getHeader('Upload-Offset') ?? 0),
  }),
  onError: (error) => {
    say({ status: error.originalResponse?.getStatus() ?? null, error: String(error.message) });
    process.exitCode = 1;
  },
  onSuccess: () => say({ done: true }),
});

upload.start();
