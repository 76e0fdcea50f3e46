import type { NextConfig } from 'next';

const config: NextConfig = {
  // Your proxy sends `/api/notifications/stream` to the gateway. Without one, such as in
  // development, Next.js does; compression would hold the events back.
  compress: false,
  rewrites: () =>
    Promise.resolve([
      {
        source: '/api/notifications/stream',
        destination: `${process.env['GATEWAY_URL'] ?? 'http://127.0.0.1:8080'}/api/notifications/stream`,
      },
    ]),
};

export default config;
