// The orchestrator behind the Vercel AI SDK: `createModels().model(selector)` wherever a model was given before.
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import type { JSONValue, LanguageModel } from 'ai';

export { shouldUse, type Rollout } from './rollout.js';

/** A model (`openai/gpt-4o-mini`), a tier (`tier:fast`) or a user's experiment (`user:john:one`). */
export type Selector = `${string}/${string}` | `tier:${string}` | `user:${string}:${string}`;

export interface Options {
  /** The endpoint, up to and including `/v1`. Left out: ORCHESTRATOR_URL, else the one on this machine. */
  baseURL?: string;
  apiKey?: string;
}

/** What the orchestrator says of an answer, in `providerMetadata.orchestrator`. */
export interface Report {
  winner: string | null;
  cost_usd: number | null;
  attempts: { provider: string; model: string; outcome: string; latency_s: number | null }[];
  /** Of a split: the arm that this user (or request) was sent to. */
  arm?: string;
  /** Where a vote was taken: how it went. */
  consensus?: { answer: unknown; agreement: number; escalated: boolean; calls_saved: number };
}

type Metadata = { [name: string]: JSONValue };

function metadataOf(body: unknown): { orchestrator: Metadata } | undefined {
  const report = (body as { orchestrator?: Metadata } | null)?.orchestrator;
  return report === undefined ? undefined : { orchestrator: report };
}

export function createModels(options: Options = {}): { model(selector: Selector): LanguageModel } {
  const provider = createOpenAICompatible({
    name: 'orchestrator',
    baseURL: options.baseURL ?? process.env.ORCHESTRATOR_URL ?? 'http://127.0.0.1:8000/v1',
    apiKey: options.apiKey ?? process.env.ORCHESTRATOR_API_KEY ?? 'none',
    includeUsage: true,
    supportsStructuredOutputs: true,
    metadataExtractor: {
      extractMetadata: async ({ parsedBody }) => metadataOf(parsedBody),
      createStreamExtractor: () => {
        let found: { orchestrator: Metadata } | undefined;
        return {
          // It rides on the chunk that carries the reason to stop.
          processChunk: (chunk) => { found = metadataOf(chunk) ?? found; },
          buildMetadata: () => found,
        };
      },
    },
  });
  return { model: (selector) => provider(selector) };
}
