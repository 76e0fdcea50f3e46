import { TestEnvironment } from 'jest-environment-jsdom';

/**
 * jsdom with what the page needs besides: Node's `fetch`, which takes the page's own addresses
 * and abort signals here, and a `matchMedia` for sonner.
 */
export default class FetchEnvironment extends TestEnvironment {
  async setup() {
    await super.setup();
    const page = this.global;
    Object.assign(page, { Headers, Response, ReadableStream, TextDecoder, TextEncoder });
    page.matchMedia = () => Object.assign(new page.EventTarget(), { matches: false });
    page.fetch = async (input, { signal, ...init } = {}) => {
      const controller = new AbortController();
      const abort = () => controller.abort(signal.reason);
      if (signal?.aborted) abort();
      signal?.addEventListener('abort', abort);
      const url = new URL(input, page.location.href);
      return fetch(url, { ...init, signal: controller.signal });
    };
  }
}
