// graphile-worker: rows in PostgreSQL, a local queue of 500, completions sent in batches, rows deleted at their end.
import { Logger, makeWorkerUtils, run } from "graphile-worker";
import { DSN, command, ran } from "./common.mjs";

const logger = new Logger(() => () => {});
const worker = {
  connectionString: DSN,
  concurrentJobs: 24,
  maxPoolSize: 25,
  localQueue: { size: 500 },
  completeJobBatchDelay: 0,
  failJobBatchDelay: 0,
  logger,
};
let utils;
const opened = async () => (utils ??= await makeWorkerUtils({ connectionString: DSN, logger }));
const job = { identifier: "noop", payload: { sent: 0 } };

await command(
  async (sent) => (await opened()).addJob("noop", { sent }),
  async (jobs) => (await opened()).addJobs(Array.from({ length: jobs }, () => job)),
  () => run({ preset: { worker }, taskList: { noop: async (payload) => ran(payload.sent) } }),
  async () => (await opened()).migrate(),
);
