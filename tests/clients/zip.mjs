// Files on the disk as one archive, by the script of our pages: OUT, the largest size in 32 bits, then PATH FILE ...
import { openAsBlob, writeFileSync } from "node:fs";

const [script, out, most, ...named] = process.argv.slice(2);
const { zipped } = await import(script);
const files = [];
for (let at = 0; at < named.length; at += 2) files.push({ path: named[at], file: await openAsBlob(named[at + 1]) });
let read = 0;
const archive = await zipped(files, { most: Number(most), onRead: bytes => { read += bytes; } });
writeFileSync(out, Buffer.from(await archive.arrayBuffer()));
process.stdout.write(String(read));
