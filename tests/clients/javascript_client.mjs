// Stock @fal-ai/client against our service, through its proxy option: `node javascript_client.mjs ORIGIN GOOD.json`.
import { readFileSync } from "node:fs";
import { createFalClient } from "@fal-ai/client";

const [origin, path] = process.argv.slice(2);
const input = JSON.parse(readFileSync(path, "utf8"));
const app = "fal-ai/ltx23-trainer-v2/audio-extend-prefix";
const fal = createFalClient({
  credentials: process.env.FAL_KEY,
  proxyUrl: { url: `${origin}/proxy`, when: "always" },
  fetch: (url, options) => fetch(url, options),
});

async function refused(call) {
  try {
    await call();
  } catch (error) {
    return { name: error.constructor.name, status: error.status, detail: error.body?.detail };
  }
}

const clips = new File([readFileSync(new URL(input.training_data_url))], "sounds.zip"); // the client uploads it
const seen = { logs: [] };
const { data, requestId } = await fal.subscribe(app, {
  input: { ...input, training_data_url: clips },
  logs: true,
  onQueueUpdate: (update) => seen.logs.push(...(update.logs ?? []).map((line) => line.message)),
});
Object.assign(seen, { data, requestId });
seen.wrong_request = await refused(() => fal.queue.submit(app, { input: { ...input, rank: 7 } }));
const { request_id } = await fal.queue.submit(app, { input: { ...input, trigger_phrase: "three" } });
await fal.queue.cancel(app, { requestId: request_id });
seen.cancelled = await refused(() => fal.queue.subscribeToStatus(app, { requestId: request_id })
  .then(() => fal.queue.result(app, { requestId: request_id })));
const streamed = await fal.queue.streamStatus(app, { requestId, logs: true });
seen.streamed = (await streamed.done()).status;
seen.ran = (await fal.run(app, { input })).data;
console.log(JSON.stringify(seen));
