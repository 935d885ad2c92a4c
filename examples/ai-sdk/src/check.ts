// Each feature by each way that the AI SDK has to the endpoint; prints one line of JSON per cell. Argument: the base URL.
import { createAnthropic } from '@ai-sdk/anthropic';
import { createOpenAI } from '@ai-sdk/openai';
import { APICallError, Output, generateObject, generateText, stepCountIs, streamText, tool, type LanguageModel } from 'ai';
import { z } from 'zod';
import { createModels, type Report, type Selector } from './models.js';

const baseURL = process.argv[2] ?? 'http://127.0.0.1:8000/v1';
const models = createModels({ baseURL });
const anthropic = createAnthropic({ baseURL, apiKey: 'none' });
const openai = createOpenAI({ baseURL, apiKey: 'none' });
const ways: Record<string, (selector: Selector) => LanguageModel> = {
  'openai-compatible': (selector) => models.model(selector),
  anthropic: (selector) => anthropic(selector),
  'openai responses': (selector) => openai.responses(selector),
  'openai chat': (selector) => openai.chat(selector),
};
const schema = z.object({ name: z.string(), age: z.number() });
const tools = {
  weather: tool({
    description: 'The weather in a city',
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => `sunny in ${city}`,
  }),
};
const asked = { model: 'sim/chat' as Selector, prompt: 'hello there', maxOutputTokens: 500 };

const features: Record<string, (way: (selector: Selector) => LanguageModel, name: string) => Promise<unknown>> = {
  generateText: async (way) => {
    const { text, finishReason, usage } = await generateText({ ...asked, model: way(asked.model) });
    return [text.includes('hello there'), finishReason, (usage.outputTokens ?? 0) > 0];
  },
  streamText: async (way) => {
    const stream = streamText({ ...asked, model: way('tier:plain') });
    let text = '';
    for await (const part of stream.textStream) text += part;
    return [text.includes('hello there'), await stream.finishReason, ((await stream.usage).outputTokens ?? 0) > 0];
  },
  tools: async (way) => {
    const { steps, text } = await generateText({ ...asked, model: way(asked.model), tools, stopWhen: stepCountIs(3) });
    return [steps.length, steps[0]?.toolResults[0]?.output, text.length > 0];
  },
  'streamed tools': async (way) => {
    const stream = streamText({ ...asked, model: way(asked.model), tools, stopWhen: stepCountIs(3) });
    const steps = await stream.steps;
    return [steps.length, steps[0]?.toolResults[0]?.output, (await stream.text).length > 0];
  },
  generateObject: async (way) => (await generateObject({ ...asked, model: way(asked.model), schema })).object,
  'Output.object': async (way) =>
    (await generateText({ ...asked, model: way(asked.model), output: Output.object({ schema }) })).output,
  streamObject: async (way) => {
    const stream = streamText({ ...asked, model: way(asked.model), output: Output.object({ schema }) });
    let parts = 0;
    for await (const _ of stream.partialOutputStream) parts++;
    return [await stream.output, parts > 0];
  },
  abort: async (way) => {
    const abort = new AbortController();
    const stream = streamText({ ...asked, model: way('sim/rate-5'), abortSignal: abort.signal, onError: () => {} });
    const began = Date.now();
    let parts = 0;
    for await (const _ of stream.textStream) if (++parts === 2) abort.abort();
    return [parts < 10, Date.now() - began < 3000];
  },
  errors: async (way) => {
    try {
      await generateText({ ...asked, model: way('tier:plaim'), maxRetries: 0 });
    } catch (error) {
      if (APICallError.isInstance(error)) return [error.statusCode, error.message.includes('tier:plain')];
    }
    return 'no error';
  },
  selectors: async (way) => {
    // A model, a tier, a user's experiment; who asks is said where the way has a place for it.
    const providerOptions = { orchestrator: { user: 'ada' }, openai: { user: 'ada' } };
    const selectors: Selector[] = ['sim/chat', 'tier:plain', 'user:ada:one'];
    const answers = selectors.map((selector) => generateText({ ...asked, model: way(selector), providerOptions }));
    return (await Promise.all(answers)).map(({ text }) => text.includes('hello there'));
  },
  report: async (way, name) => {
    if (name !== 'openai-compatible') return 'beyond this shape';
    const whole = await generateText({ ...asked, model: way('tier:plain') });
    const stream = streamText({ ...asked, model: way('tier:plain') });
    await stream.consumeStream();
    return [whole.providerMetadata, await stream.providerMetadata].map((metadata) => {
      const report = metadata?.orchestrator as unknown as Report;
      return [report.winner, report.cost_usd, report.attempts.map((attempt) => attempt.outcome)];
    });
  },
};

for (const [name, way] of Object.entries(ways)) {
  for (const [feature, run] of Object.entries(features)) {
    let result: unknown;
    try {
      result = await run(way, name);
    } catch (error) {
      result = `failed: ${error}`;
    }
    console.log(JSON.stringify({ client: name, feature, result }));
  }
}
