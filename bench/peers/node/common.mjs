// The shared part of both peers, like common.py for the Python ones: the measured job, and the command line.
import { appendFileSync, openSync, writeSync } from "node:fs";
import { createInterface } from "node:readline";

export const { BENCH_DSN: DSN, BENCH_REDIS: REDIS, BENCH_FOLDER: FOLDER } = process.env;
const BULK = 1000;

const tally = Buffer.alloc(8);
let file, count = 0n, due = false;

// The clock is the same as Python's monotonic_ns.
export function ran(sent) {
  if (sent) appendFileSync(`${FOLDER}/${process.pid}.starts`, `${sent} ${process.hrtime.bigint()}\n`);
  count += 1n;
  if (due) return;
  due = true;
  setImmediate(() => {
    due = false;
    file ??= openSync(`${FOLDER}/${process.pid}.tally`, "w");
    tally.writeBigInt64LE(count);
    writeSync(file, tally, 0, 8, 0);
  });
}

export async function command(one, bulk, work, prepare = () => {}) {
  const [mode, jobs] = process.argv.slice(2);
  if (mode === "work") return work();
  if (mode === "prepare") {
    await prepare();
    process.exit(0);
  }
  await one(0);
  const began = process.hrtime.bigint();
  if (mode === "one") for (let n = 0; n < jobs; n++) await one(0);
  if (mode === "bulk") for (let n = 0; n < jobs / BULK; n++) await bulk(BULK);
  if (mode === "interactive")
    for await (const _ of createInterface({ input: process.stdin })) await one(String(process.hrtime.bigint()));
  console.log(Number(began) / 1e9, Number(process.hrtime.bigint() - began) / 1e9);
  process.exit(0);
}
