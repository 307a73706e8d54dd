// A second independent reader for the smuggling corpus: Node's own HTTP server.
// Reads {"name", "raw": base64} a line from stdin; writes {"name", "seen": [[method, target, body]]}
// a line, with the requests that Node's server read whole from these bytes.
"use strict";
const http = require("http");
const net = require("net");
const readline = require("readline");

const seenBy = new Map();

const server = http.createServer((request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("error", () => {});
  request.on("end", () => {
    const body = Buffer.concat(parts).toString("base64");
    seenBy.get(request.socket.remotePort).push([request.method, request.url, body]);
    response.end("ok");
  });
});
server.on("connection", (socket) => seenBy.set(socket.remotePort, []));
server.on("clientError", (error, socket) => socket.destroy());
server.on("connect", (request, socket) => socket.destroy());
server.on("checkExpectation", (request, response) => server.emit("request", request, response));

function play(port, raw) {
  return new Promise((resolve) => {
    const socket = net.connect(port, "127.0.0.1", () => {
      const mine = socket.localPort;
      const timer = setTimeout(() => socket.destroy(), 300);
      socket.on("close", () => {
        clearTimeout(timer);
        resolve(seenBy.get(mine) || []);
      });
      socket.write(raw);
    });
    socket.on("data", () => {});
    socket.on("error", () => {});
  });
}

server.listen(0, "127.0.0.1", async () => {
  const port = server.address().port;
  const running = [];
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { name, raw } = JSON.parse(line);
    const tell = (seen) => console.log(JSON.stringify({ name, seen }));
    running.push(play(port, Buffer.from(raw, "base64")).then(tell));
    if (running.length % 50 === 0) await Promise.all(running);
  }
  await Promise.all(running);
  // Not process.exit: it would cut off what waits to be written.
  server.close();
  server.closeAllConnections();
});
