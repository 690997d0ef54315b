// One page: who asks, and for how long the server has been up.

'use strict';

const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');

const escapeHtml = require('escape-html');
const ms = require('ms');

const port = Number(process.env.PORT || 8080);
const page = fs.readFileSync(path.join(__dirname, 'public', 'index.html'), 'utf8');

const server = http.createServer((request, response) => {
  const url = new URL(request.url, 'http://localhost');
  if (request.method !== 'GET' || url.pathname !== '/') {
    response.writeHead(404, { 'content-type': 'text/plain; charset=utf-8' }).end('not found\n');
    return;
  }
  const values = {
    name: url.searchParams.get('name') || 'traveller',
    uptime: ms(Math.round(process.uptime() * 1000), { long: true }),
  };
  const html = page.replace(/\{\{(\w+)\}\}/g, (_, key) => escapeHtml(values[key]));
  response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(html);
});

server.listen(port, () => console.log(`listening on port ${port}`));
process.on('SIGTERM', () => server.close());
