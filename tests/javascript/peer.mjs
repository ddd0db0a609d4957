// A device with PouchDB: takes one JSON command per line, does it on its databases in memory, answers one JSON line.
//
//   {"do": "put", "db": NAME, "docs": […], "new_edits": true}
//   {"do": "remove", "db": NAME, "id": ID}
//   {"do": "replicate", "db": NAME, "with": {url, user, password}, "way": "to" | "from" | "sync"}   until it is done
//   {"do": "follow", …the same…}                                                                    for ever
//   {"do": "rest", "db": NAME}                                                       end what follows
//   {"do": "view", "db": NAME}                                                       all leaves of all documents
//   {"do": "read", "db": NAME, "id": ID, "attachment": NAME}                         bytes, in base64

import readline from 'node:readline';
import PouchDB from 'pouchdb-core';
import memory from 'pouchdb-adapter-memory';
import http from 'pouchdb-adapter-http';
import replication from 'pouchdb-replication';

PouchDB.plugin(memory).plugin(http).plugin(replication);

const databases = new Map();
const following = new Map();

function database(name) {
  if (!databases.has(name)) databases.set(name, new PouchDB(name, { adapter: 'memory' }));
  return databases.get(name);
}

function remote({ url, user, password }) {
  return new PouchDB(url, { adapter: 'http', auth: { username: user, password }, skip_setup: true });
}

function begin({ db, with: where, way }, options) {
  const here = database(db), there = remote(where);
  if (way === 'to') return here.replicate.to(there, options);
  if (way === 'from') return here.replicate.from(there, options);
  return here.sync(there, options);
}

function attachmentsOf(doc) {
  const found = {};
  for (const [name, one] of Object.entries(doc._attachments ?? {})) {
    found[name] = { content_type: one.content_type, digest: one.digest, length: one.length };
  }
  return found;
}

async function leavesOf(db, id) {
  const rows = await db.get(id, { open_revs: 'all', revs: true });
  return rows.map(({ ok }) => ({ ...ok, ...(ok._attachments && { _attachments: attachmentsOf(ok) }) }));
}

const commands = {
  put: ({ db, docs, new_edits = true }) => database(db).bulkDocs(docs, { new_edits }),
  remove: async ({ db, id }) => database(db).remove(await database(db).get(id)),
  async replicate(command) {
    const { push, pull, ...own } = await begin(command, { batch_size: 7 });
    return [own, push, pull].filter((one) => one && 'ok' in one);
  },
  follow(command) {
    const running = begin(command, { live: true, retry: true });
    running.on('error', () => {});  // told by what does not arrive
    following.set(command.db, running);
  },
  async rest({ db }) {
    const running = following.get(db);
    following.delete(db);
    running.cancel();
    await running.catch(() => {});
  },
  async view({ db }) {
    const { results } = await database(db).changes({ style: 'all_docs' });
    const view = {};
    for (const { id, deleted } of results) {
      view[id] = { leaves: await leavesOf(database(db), id) };
      if (!deleted) view[id].winner = await database(db).get(id, { conflicts: true });
      if (view[id].winner?._attachments) view[id].winner._attachments = attachmentsOf(view[id].winner);
    }
    return view;
  },
  async read({ db, id, attachment }) {
    return (await database(db).getAttachment(id, attachment)).toString('base64');
  },
};

for await (const line of readline.createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  let answer;
  try {
    answer = { ok: (await commands[command.do](command)) ?? null };
  } catch (error) {
    answer = { error: String(error.message ?? error), status: error.status };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
process.exit(0);
