import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import '../src/style.css';
import { App } from './app.js';
import './demo.css';

const root = document.getElementById('root');
if (root) {
  createRoot(root).render(
    <StrictMode>
      <App />
    </StrictMode>,
  );
}
