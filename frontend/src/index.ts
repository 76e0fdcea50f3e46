/**
 * The browser's side of notify-gateway, for any framework or none.
 *
 * @packageDocumentation
 */
export type { ActionName, ApiRequest, CallRequest, NotificationApi, Page } from './api.js';
export {
  type ClientEvent,
  type Listener,
  type NotificationClient,
  createNotificationClient,
} from './client.js';
export type { TokenProvider } from './connection.js';
export { NotificationClientError, type ProblemDocument } from './errors.js';
export { eventSourceTransport } from './event-source-transport.js';
export { type FetchTransportOptions, fetchTransport } from './fetch-transport.js';
export type { Reason, Status } from './machine.js';
export type { Arrival, ListedRow, NotificationRow, NotificationType } from './notification.js';
export type { ClientOptions, InitialData } from './options.js';
export {
  type ShareStream,
  type Sharing,
  type SharingHandlers,
  oneStreamPerBrowser,
} from './sharing.js';
export { type SseEvent, type SseHandlers, createSseParser } from './sse.js';
export type { ClientState } from './state.js';
export type { Refusal, StreamRequest, StreamSink, Transport } from './transport.js';
export type { Logger } from './warn.js';
