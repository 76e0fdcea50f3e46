import { type PayloadAction, createAction, createSlice, isAnyOf } from '@reduxjs/toolkit';
import type { ClientState } from '@notify-gateway/client';
import { loggedIn, loggedOut } from './session-slice.ts';

/** What of the client's state may be in a store: all but `error`, which is not serializable. */
export type Notifications = Pick<ClientState, 'status' | 'notifications' | 'unreadCount'>;

const initialState: Notifications = { status: 'stopped', notifications: [], unreadCount: 0 };

const slice = createSlice({
  name: 'notifications',
  initialState,
  reducers: {
    /** The client has something new. */
    changed: (_state, { payload }: PayloadAction<Notifications>) => payload,
  },
  extraReducers: (builder) => {
    // In the same action that names another user, so that no component can be drawn with the
    // name of one and the rows of another.
    builder.addMatcher(isAnyOf(loggedIn, loggedOut), () => initialState);
  },
});

/** The user has read one; the listener passes it on to the client. */
export const read = createAction<string>('notifications/read');

export const { changed } = slice.actions;
export default slice.reducer;
