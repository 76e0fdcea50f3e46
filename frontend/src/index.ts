/**
 * The browser's side of notify-gateway, for any framework or none.
 *
 * @packageDocumentation
 */
export type { ApiRequest, CallRequest, NotificationApi, Page } from './api.js';
export {
  type ClientOptions,
  type ClientState,
  type NotificationClient,
  createNotificationClient,
} from './client.js';
export type { TokenProvider } from './connection.js';
export { StreamRefusedError } from './errors.js';
export { eventSourceTransport } from './event-source-transport.js';
export { fetchTransport } from './fetch-transport.js';
export type { Reason, Status } from './machine.js';
export type { Arrival, Notification, NotificationType } from './notification.js';
export {
  type ShareStream,
  type Sharing,
  type SharingHandlers,
  oneStreamPerBrowser,
} from './sharing.js';
export type { SseEvent } from './sse.js';
export type { StreamRequest, StreamSink, Transport } from './transport.js';
