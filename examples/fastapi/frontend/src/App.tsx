import { useEffect, useState } from 'react';
import { type Login, refresh } from './api';
import { FlagsProvider } from './flags';
import { Home } from './Home';
import { LoginForm } from './LoginForm';
import { type Session, SessionContext, createSession } from './session';

export function App() {
  return (
    <FlagsProvider>
      <Scribe />
    </FlagsProvider>
  );
}

function Scribe() {
  // `undefined` until it is known whether somebody is still logged in.
  const [session, setSession] = useState<Session | null>();

  const start = (login: Login) => setSession(createSession(login, () => setSession(null)));

  useEffect(() => {
    let isStale = false;
    refresh().then(
      (login) => !isStale && start(login),
      () => !isStale && setSession(null),
    );
    return () => {
      isStale = true;
    };
  }, []);

  if (session === undefined) return null;
  if (session === null) return <LoginForm onLogin={start} />;
  return (
    <SessionContext value={session}>
      <Home key={session.user.id} />
    </SessionContext>
  );
}
