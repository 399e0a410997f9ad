// What a worker's handlers did, written to files: what ledger.py says, in JavaScript.

import { appendFileSync, closeSync, fstatSync, openSync, readSync, readdirSync } from "node:fs";
import { join } from "node:path";

const WRITE_MS = 20;
const TAIL_BYTES = 200;

/** Nanoseconds of CLOCK_MONOTONIC. */
export const now = () => process.hrtime.bigint();

export class Ledger {
  #unwritten = [];
  #ended = 0;
  #told = 0;
  #first = 0n;
  #last = 0n;

  constructor(folder, keepsRuns) {
    this.countsFile = join(folder, `${process.pid}.counts`);
    this.runsFile = keepsRuns ? join(folder, `${process.pid}.runs`) : null;
    const parent = process.ppid;
    setInterval(() => {
      this.write();
      if (process.ppid !== parent) process.exit(1);
    }, WRITE_MS).unref();
  }

  /** Note that the handler of that payload, begun then, ends now. */
  add(payload, begun) {
    const end = now();
    if (this.runsFile) this.#unwritten.push(`${payload.lane ?? -1} ${payload.n} ${begun} ${end}\n`);
    if (begun < this.#first || !this.#first) this.#first = begun;
    this.#last = end;
    this.#ended++;
  }

  /** Bring the files up to date. */
  write() {
    if (this.#ended === this.#told) return;
    if (this.runsFile) appendFileSync(this.runsFile, this.#unwritten.join(""));
    this.#unwritten = [];
    this.#told = this.#ended;
    appendFileSync(this.countsFile, `${now()} ${this.#ended} ${this.#first} ${this.#last}\n`);
  }
}

/** How many handlers of all workers have ended. */
export function ended(folder) {
  const counts = readdirSync(folder).filter((name) => name.endsWith(".counts"));
  return counts.reduce((sum, name) => sum + latest(join(folder, name)), 0);
}

/** The count in the last whole line. */
function latest(path) {
  const file = openSync(path);
  const tail = Buffer.alloc(TAIL_BYTES);
  const read = readSync(file, tail, 0, TAIL_BYTES, Math.max(0, fstatSync(file).size - TAIL_BYTES));
  closeSync(file);
  const lines = tail.toString("latin1", 0, read).split("\n");
  return lines.length > 1 ? Number(lines.at(-2).split(" ")[1]) : 0;
}
