// What the adapters of the Node contenders have in common: what driver.py says, in JavaScript.
//
//     node NAME.mjs COMMAND '{"dsn": ..., ...}'
//
// BENCH_MODULES is the folder in which the contenders are installed.

import { writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { Load } from "./jobs.mjs";
import { Ledger, ended, now } from "./ledger.mjs";

const WARM_UP_MS = 60_000;
const FEED_CHUNK = 2000;
const FEED_PAUSE_MS = 20;

/** Import an installed package. */
export const installed = createRequire(join(process.env.BENCH_MODULES ?? ".", "here.js"));

const seconds = (began) => Number(now() - began) / 1e9;

/** Resolves at SIGTERM. */
export function terminated() {
  return new Promise((resolve) => process.once("SIGTERM", resolve));
}

/** Wait as long as the payload says, if it does. */
export async function nap(payload) {
  if (payload.ms) await sleep(payload.ms);
}

async function enqueue(adapter, argument) {
  const { connections, counts } = argument;
  const load = new Load(argument);
  const marks = [];
  const producer = await adapter.producer(argument.dsn, connections, load.lanes);

  async function produce(connection) {
    for (const job of load.ofConnection(connection, connections)) {
      marks.push(`${job.payload.n} ${now()}\n`);
      await producer.enqueue(job);
      if (argument.pause_ms) await sleep(argument.pause_ms);
    }
  }

  const all = Array.from({ length: connections }, (_, connection) => connection);
  await warmUp(producer, load, all, counts);
  const began = now();
  await Promise.all(all.map(produce));
  const took = seconds(began);
  await producer.close();
  if (argument.marks) writeFileSync(argument.marks, marks.join(""));
  return { seconds: took };
}

async function warmUp(producer, load, connections, counts) {
  await Promise.all(connections.map((connection) => producer.enqueue(load.warmUp(connection))));
  const began = now();
  while (counts && ended(counts) < connections.length) {
    if (seconds(began) * 1000 > WARM_UP_MS) throw new Error("no worker has run the warm-up jobs");
    await sleep(50);
  }
  if (counts) await sleep(500); // what has just worked is idle again
}

async function bulk(adapter, argument) {
  const load = new Load(argument);
  const jobs = [...load.all()];
  const producer = await adapter.producer(argument.dsn, 1, load.lanes);
  const began = now();
  for (let start = 0; start < jobs.length; start += adapter.chunk) {
    await producer.enqueueMany(jobs.slice(start, start + adapter.chunk));
  }
  const took = seconds(began);
  await producer.close();
  return { seconds: took };
}

async function feed(adapter, argument) {
  const load = new Load({ jobs: 0 });
  const producer = await adapter.producer(argument.dsn, 1, 0);
  const began = now();
  let fed = 0;
  let lowest = argument.backlog;
  while (seconds(began) < argument.seconds) {
    const backlog = fed - ended(argument.counts);
    if (fed >= argument.backlog) lowest = Math.min(lowest, backlog);
    if (backlog >= argument.backlog) {
      await sleep(FEED_PAUSE_MS);
      continue;
    }
    await producer.enqueueMany(Array.from({ length: FEED_CHUNK }, (_, i) => load.job(fed + i)));
    fed += FEED_CHUNK;
  }
  await producer.close();
  return { fed, lowest };
}

async function work(adapter, argument) {
  const ledger = new Ledger(argument.ledger, argument.runs);
  await adapter.work(argument.dsn, ledger, argument);
  ledger.write();
  return {};
}

async function setup(adapter, argument) {
  await adapter.setup(argument.dsn);
  return {};
}

const COMMANDS = { setup, enqueue, bulk, feed, work };

/** Carry out the command on the command line. */
export async function main(adapter) {
  const [command, argument] = process.argv.slice(2);
  const answer = await COMMANDS[command](adapter, JSON.parse(argument));
  console.log(JSON.stringify(answer));
  process.exit(0);
}
