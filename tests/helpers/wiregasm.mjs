// SPDX-License-Identifier: GPL-2.0-or-later
// Loads the dissector into wiregasm, a Wireshark 4.4 with Lua 5.4 built as WebAssembly.
//
//     node wiregasm.mjs PACKAGE SCRIPT CAPTURE FILTER...
//
// prints JSON: Wireshark's messages, the info column of each frame, and how many frames match each
// filter; the labels of the tree of the first frame that matches the first filter.
import { createRequire } from "node:module";
import { readFileSync, writeSync } from "node:fs";
import path from "node:path";

const [folder, script, capture, ...filters] = process.argv.slice(2);
const dist = path.join(folder, "dist");
const load = createRequire(import.meta.url)(path.join(dist, "wiregasm.js"));
const messages = [];
const note = (text) => text.includes("Compiled display filter") || messages.push(text);
const wg = await load({
  locateFile: (name) => path.join(dist, name),
  handleStatus: (type, status) => messages.push(`${type}: ${status}`),
  print: note,
  printErr: note,
});
wg.FS.writeFile("/plugins/fbsd_netdump.lua", readFileSync(script));
wg.init();
wg.FS.writeFile("/uploads/capture", readFileSync(capture));
const session = new wg.DissectSession("/uploads/capture");
const code = session.load().code;
const list = (vector) => Array.from({ length: vector.size() }, (_, index) => vector.get(index));
const labels = (trees) => list(trees).flatMap((tree) => [tree.label, ...labels(tree.tree)]);
const matches = filters.map((filter) => session.getFrames(filter, 0, 0));
const first = matches.length && matches[0].frames.size() ? matches[0].frames.get(0).number : 1;
const info = list(session.getFrames("", 0, 0).frames).map((frame) => list(frame.columns).at(-1));
const counts = matches.map((found) => found.matched);
const tree = labels(session.getFrame(first).tree);
let left = Buffer.from(JSON.stringify({ code, messages, info, counts, tree }));
while (left.length) {
  left = left.subarray(writeSync(1, left)); // a pipe takes it piece by piece, exit() waits for none
}
process.exit(0);
