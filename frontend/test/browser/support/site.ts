import { once } from 'node:events';
import { type Server, createServer, request as ask } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { World } from './world.js';

/** What is at a path; it rejects where there is nothing. */
type File = (path: string) => Promise<Buffer>;

/** One origin, as a proxy makes it: the gateway's stream, the app's login and API, and the rest. */
export class Site {
  private constructor(readonly server: Server) {}

  /** The rest are files. */
  static ofFiles(world: World, file: File): Promise<Site> {
    return Site.#start((path) => {
      if (path === STREAM) return world.gateway.streamUrl;
      return path.startsWith('/api/') || path === '/login' ? world.app.origin : null;
    }, file);
  }

  /** The rest, and the API, is what another server answers. */
  static before(world: World, origin: string): Promise<Site> {
    return Site.#start(
      (path) => {
        if (path === STREAM) return world.gateway.streamUrl;
        return path === '/login' ? world.app.origin : origin;
      },
      () => Promise.reject(new Error('there are no files')),
    );
  }

  static async #start(onward: (path: string) => string | null, file: File): Promise<Site> {
    const server = createServer((request, response) => {
      const { pathname } = new URL(request.url ?? '/', 'http://localhost');
      const target = onward(pathname);
      if (target !== null) {
        const { hostname, port } = new URL(target);
        const { method, url: path, headers } = request;
        const further = ask({ hostname, port, method, path, headers }, (answer) => {
          response.writeHead(answer.statusCode ?? 502, answer.headers);
          answer.pipe(response);
        });
        further.on('error', () => response.destroy());
        response.on('close', () => further.destroy());
        request.pipe(further);
        return;
      }
      file(pathname).then(
        (body) => response.writeHead(200, { 'content-type': typeOf(pathname) }).end(body),
        () => response.writeHead(404).end(),
      );
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new Site(server);
  }

  get origin(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.server.closeAllConnections();
    this.server.close();
    await once(this.server, 'close');
  }
}

const STREAM = '/api/notifications/stream';

function typeOf(path: string): string {
  if (path.endsWith('.js')) return 'text/javascript';
  return path.endsWith('.css') ? 'text/css' : 'text/html';
}
