// Asks one question in protobuf, as a web backend would: node ask.js <nats url> <proto file> <question>
// Prints one JSON object: the chunks as they came, then the answer.
import { connect, createInbox } from "@nats-io/transport-node";
import protobuf from "protobufjs";

const [url, proto, question] = process.argv.slice(2);
const root = await protobuf.load(proto);
const type = (name) => root.lookupType(`messages.v1.${name}`);
const nc = await connect({ servers: url });
const requestId = createInbox().split(".").pop();

const chunks = [];
let last;
const done = new Promise((resolve) => (last = resolve));
nc.subscribe(`ai.chat.response.stream.${requestId}`, {
  callback: (error, message) => {
    const chunk = type("ChatStreamChunk").decode(message.data);
    chunks.push({ index: chunk.index, type: chunk.type, content: chunk.content, done: chunk.done });
    if (chunk.done) last();
  },
});

const request = type("ChatRequest").encode({ requestId, message: question, enableStreaming: true }).finish();
const reply = await nc.request("ai.chat.request", request, { timeout: 20000 });
await done;
const response = type("ChatResponse").decode(reply.data);
console.log(JSON.stringify({ requestId, chunks, response: response.toJSON() }));
await nc.drain();
