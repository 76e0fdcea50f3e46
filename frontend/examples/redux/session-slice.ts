import { type PayloadAction, createSlice } from '@reduxjs/toolkit';

/** Who is logged in: every app has such a slice, under another name. */
const session = createSlice({
  name: 'session',
  initialState: { user: null as string | null },
  reducers: {
    loggedIn: (state, { payload }: PayloadAction<string>) => {
      state.user = payload;
    },
    loggedOut: (state) => {
      state.user = null;
    },
  },
});

export const { loggedIn, loggedOut } = session.actions;
export default session.reducer;
