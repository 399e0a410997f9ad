// The jobs of a run: what jobs.py says, in JavaScript.

import { readFileSync } from "node:fs";

const WARM_UP = -1;
const LONGEST_NAP_MS = 6;
const TEXT = "x".repeat(80);

/** So many jobs, dealt out to the lanes in turn; see jobs.py. */
export class Load {
  constructor({ jobs, lanes = 0, naps = false, payloads = "" }) {
    this.jobs = jobs;
    this.lanes = lanes;
    this.naps = naps;
    this.documents = payloads
      ? readFileSync(payloads, "utf8").trimEnd().split("\n").map((line) => JSON.parse(line))
      : [];
  }

  /** The job of that index. */
  job(index) {
    const { lanes } = this;
    return lanes
      ? this.#made(index, index % lanes, Math.floor(index / lanes))
      : this.#made(index, -1, index);
  }

  /** The job by which that connection shows that it works. */
  warmUp(connection) {
    const lane = this.lanes ? connection % this.lanes : -1;
    return this.#made(lane - this.lanes, lane, WARM_UP);
  }

  *all() {
    for (let index = 0; index < this.jobs; index++) yield this.job(index);
  }

  /** What one of several connections enqueues: all that is in a lane comes by one. */
  *ofConnection(connection, connections) {
    for (let index = 0; index < this.jobs; index++) {
      const dealt = this.lanes ? index % this.lanes : index;
      if (dealt % connections === connection) yield this.job(index);
    }
  }

  #made(index, lane, number) {
    const payload = { n: number };
    if (this.lanes) payload.lane = lane;
    if (this.naps) payload.ms = (Math.imul(index, 2654435761) >>> 0) % (LONGEST_NAP_MS + 1);
    if (this.documents.length) payload.event = this.documents[index % this.documents.length];
    else payload.text = TEXT;
    return { lane, payload };
  }
}
