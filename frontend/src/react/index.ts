'use client';

/**
 * React on top of the core: a provider, hooks and a bell.
 *
 * @packageDocumentation
 */
export { NotificationBell, type NotificationBellProps } from './bell.js';
export {
  type NotificationStream,
  type Notifications,
  type OnNotification,
  type StreamOptions,
  useNotificationContext,
  useNotificationSSE,
  useNotifications,
  useOncePerBrowser,
  useUnreadCount,
} from './hooks.js';
export type { BellLabels } from './labels.js';
export { NotificationList, type NotificationListProps } from './list.js';
export {
  NotificationProvider,
  type NotificationProviderProps,
  type ProviderOptions,
  useNotificationClient,
} from './provider.js';
export type { Placement } from './position.js';
export type { ToastMany, ToastOptions, Toaster } from './toasts.js';
