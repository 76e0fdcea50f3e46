import { logOut } from './api';
import { Bell } from './Bell';
import { Comments } from './Comments';
import { useSubmit } from './hooks';
import { useSession } from './session';
import { Transcriptions } from './Transcriptions';

export function Home() {
  const { user, end } = useSession();
  const { onSubmit, isPending, error } = useSubmit(async () => {
    await logOut();
    end();
  });

  return (
    <>
      <header>
        <div>
          <h1>Scribe</h1>
          <h2 className="muted">Logged in as {user.name}</h2>
        </div>
        <Bell />
        <form onSubmit={onSubmit}>
          <button disabled={isPending}>Log out</button>
        </form>
      </header>
      {error && <p role="alert">{error}</p>}
      <main>
        <Transcriptions />
        <Comments />
      </main>
    </>
  );
}
