import { type Login, logIn } from './api';
import { useSubmit } from './hooks';

export function LoginForm({ onLogin }: { readonly onLogin: (login: Login) => void }) {
  const { onSubmit, isPending, error } = useSubmit(async (fields) => {
    onLogin(await logIn(String(fields.get('email')), String(fields.get('password'))));
  });

  return (
    <main className="login">
      <form className="card" onSubmit={onSubmit}>
        <h1>Scribe</h1>
        <p className="muted">Turn recordings into text, together.</p>
        <label>
          E-mail
          <input name="email" type="email" autoComplete="username" required />
        </label>
        <label>
          Password
          <input name="password" type="password" autoComplete="current-password" required />
        </label>
        <button className="primary" disabled={isPending}>
          Log in
        </button>
        {error && <p role="alert">{error}</p>}
      </form>
    </main>
  );
}
