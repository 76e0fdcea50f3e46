import { configureStore } from '@reduxjs/toolkit';
import { createNotificationsListener } from './notifications-listener.ts';
import notifications from './notifications-slice.ts';
import session from './session-slice.ts';

export const store = configureStore({
  reducer: { notifications, session },
  middleware: (getDefault) => getDefault().prepend(createNotificationsListener()),
});

export type RootState = ReturnType<typeof store.getState>;
export type AppDispatch = typeof store.dispatch;
