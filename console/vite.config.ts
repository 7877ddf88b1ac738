import { defineConfig, type Plugin } from "vite";

// The gateway sends a policy too. This one holds whoever serves the files, and asks for Trusted Types. Not while
// developing: Vite's server changes styles in place.
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' blob:",
  "media-src 'self' blob:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "require-trusted-types-for 'script'",
].join("; ");

const policy: Plugin = {
  name: "policy",
  apply: "build",
  transformIndexHtml: () => [
    {
      tag: "meta",
      attrs: { "http-equiv": "Content-Security-Policy", content: POLICY },
      injectTo: "head-prepend",
    },
  ],
};

// The names of the built files have no hash: they are committed, and a change of one line should be a change of one file.
// The gateway sends them with an ETag and asks browsers to check it.
export default defineConfig({
  base: "./",
  plugins: [policy],
  build: {
    outDir: "../gateway/console",
    emptyOutDir: true,
    target: "es2022",
    cssTarget: ["chrome123", "firefox120", "safari17.5"], // the first with light-dark()
    modulePreload: false,
    cssCodeSplit: false,
    assetsInlineLimit: 0, // a data: address would need a hole in the content security policy
    rollupOptions: {
      output: {
        entryFileNames: "console.js",
        chunkFileNames: "[name].js",
        assetFileNames: "console[extname]",
      },
    },
  },
  server: { proxy: { "/api": process.env["WATCHWORD_GATEWAY"] ?? "http://127.0.0.1:8701" } },
});
