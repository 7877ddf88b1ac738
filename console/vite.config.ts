import { defineConfig } from "vite";

// The names of the built files have no hash: they are committed, and a change of one line should be a change of one file.
// The gateway sends them with an ETag and asks browsers to check it.
export default defineConfig({
  base: "./",
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
