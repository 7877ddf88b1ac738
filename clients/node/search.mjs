// Asks a running Watchword in plain words, with nothing of Watchword but its .proto file.
//
//   node search.mjs HOST:PORT "words"
//
// Prints one line per hit, best first: confidence in percent, camera, start, end, moment id, kind of object. Says on
// standard error when no hit is sure, or when not everything was searched. Ends with 0, or with 1 and one line on
// standard error. WATCHWORD_TOKEN is sent as the token, and WATCHWORD_CA names the PEM file of the root for TLS; without
// it nothing is encrypted.

import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const [address, words] = process.argv.slice(2);
if (words === undefined) {
  console.error('usage: node search.mjs HOST:PORT "words"');
  process.exit(1);
}

const proto = join(dirname(fileURLToPath(import.meta.url)), "../../proto/v1/query.proto");
// Times are 64-bit; below 2^53 a Number holds them exactly.
const { watchword } = grpc.loadPackageDefinition(
  protoLoader.loadSync(proto, { keepCase: true, longs: Number, defaults: true }),
);
const { WATCHWORD_CA: ca, WATCHWORD_TOKEN: token } = process.env;
const credentials = ca ? grpc.credentials.createSsl(readFileSync(ca)) : grpc.credentials.createInsecure();
const query = new watchword.v1.Query(address, credentials);
const metadata = new grpc.Metadata();
if (token) {
  metadata.set("authorization", `Bearer ${token}`);
}

query.Search({ text: words }, metadata, { deadline: Date.now() + 10_000 }, (error, reply) => {
  query.close();
  if (error) {
    console.error(`${grpc.status[error.code]}: ${error.details}`);
    process.exitCode = 1;
    return;
  }
  for (const hit of reply.hits) {
    const [start, end] = [hit.start_ms, hit.end_ms].map((ms) => new Date(ms).toISOString());
    const sure = `${(100 * hit.confidence).toFixed(1)} %`;
    console.log([sure, hit.camera, start, end, hit.moment_id, hit.kind || "-"].join("\t"));
  }
  if (reply.no_confident_match) {
    console.error("nothing matches with confidence; these are the nearest");
  }
  const { partial, shards_missing: missing, gaps_in_all: gaps } = reply.coverage;
  if (partial) {
    console.error(`incomplete: ${gaps} gaps; did not answer: ${missing.join(", ") || "none"}`);
  }
});
