'use client';

/**
 * React on top of the core: a provider, hooks and a bell.
 *
 * @packageDocumentation
 */
export { type BellLabels, NotificationBell, type NotificationBellProps } from './bell.js';
export {
  type NotificationStream,
  type Notifications,
  useNotificationSSE,
  useNotifications,
  useUnreadCount,
} from './hooks.js';
export {
  NotificationProvider,
  type NotificationProviderProps,
  type ProviderOptions,
  useNotificationClient,
} from './provider.js';
export type { Placement } from './position.js';
export type { ToastOptions, Toaster } from './toasts.js';
