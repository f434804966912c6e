// Stock @fal-ai/client uploads a file whole and in parts: `node javascript_upload.mjs ORIGIN FILE`.
import { readFileSync } from "node:fs";
import { createFalClient } from "@fal-ai/client";

const [origin, path] = process.argv.slice(2);
const content = readFileSync(path);
const fal = createFalClient({ credentials: process.env.FAL_KEY, proxyUrl: { url: `${origin}/proxy`, when: "always" } });

// says that it has 100 MiB, which the client sends in ten parts: each is a tenth of what it really holds
class Large extends File {
  get size() {
    return 100 * 2 ** 20;
  }
  slice(start, end) {
    const real = (place) => Math.round((place / this.size) * content.length);
    return new Blob([content.subarray(real(start), real(end))]);
  }
}

const whole = await fal.storage.upload(new File([content], "clips.zip"));
const parts = await fal.storage.upload(new Large([content], "clips.zip"));
console.log(JSON.stringify({ whole, parts }));
