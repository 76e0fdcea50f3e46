import js from '@eslint/js';
import reactHooks from 'eslint-plugin-react-hooks';
import { defineConfig } from 'eslint/config';
import tseslint from 'typescript-eslint';

export default defineConfig(
  {
    ignores: ['dist', 'node_modules', 'test/react18', 'test/browser/.built', 'test/consumers/*/**'],
  },
  js.configs.recommended,
  tseslint.configs.strictTypeChecked,
  tseslint.configs.stylisticTypeChecked,
  reactHooks.configs.flat['recommended-latest'],
  {
    languageOptions: { parserOptions: { projectService: true } },
    rules: {
      // The compiler knows better what is defined where.
      'no-undef': 'off',
      // Numbers in messages and labels say what they are.
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      // Members that the index signature of tsconfig wants in brackets.
      '@typescript-eslint/dot-notation': 'off',
    },
  },
  {
    // What they import is not installed here: their types are checked where it is, by
    // `npm run consumers`.
    files: ['examples/**'],
    extends: [tseslint.configs.disableTypeChecked],
    languageOptions: { parserOptions: { projectService: false } },
  },
);
