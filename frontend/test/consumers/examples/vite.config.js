import { svelte } from '@sveltejs/vite-plugin-svelte';
import vue from '@vitejs/plugin-vue';
import { defineConfig } from 'vite';

// One build of all, each in a page of its own.
export default defineConfig({
  base: './',
  plugins: [vue(), svelte()],
  build: {
    rolldownOptions: {
      input: ['tanstack-query', 'redux', 'vue', 'svelte'].map((name) => `${name}/index.html`),
    },
  },
});
