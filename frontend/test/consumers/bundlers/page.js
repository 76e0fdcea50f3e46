// A page whose dependency still calls require(): what the two were given.
import { NotificationProvider } from '@notify-gateway/client/react';
import dependency from './dependency.cjs';

globalThis.copies = new Set([NotificationProvider, dependency.NotificationProvider]).size;
