// Who is sent through the orchestrator: decided here as the server decides it (docs/rollout.md), without asking.
import { createHash } from 'node:crypto';

/** `rollout:` of the configuration; `GET /admin/config` has it as `config.rollout`. */
export interface Rollout {
  /** Share of the users, from 0 to 100. Left out: everybody. */
  percent?: number;
  allow?: readonly string[];
  deny?: readonly string[];
  seed?: string;
}

/** Where a user stands among all: from 0 up to, not including, 100. */
export function bucket(seed: string, user: string): number {
  const digest = createHash('sha256').update(`${seed}:${user}`, 'utf8').digest();
  return (digest.readUIntBE(0, 6) / 2 ** 48) * 100;
}

/** Whether `user` is sent through: `deny` wins over `allow`, `allow` over the percentage. */
export function shouldUse(rollout: Rollout, user: string): boolean {
  if (rollout.deny?.includes(user)) return false;
  if (rollout.allow?.includes(user)) return true;
  return bucket(rollout.seed ?? '', user) < (rollout.percent ?? 100);
}
