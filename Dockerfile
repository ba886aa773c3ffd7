# The whole Debian image: where a native dependency has no prebuilt binary, it is compiled here.
FROM node:24.21-bookworm AS build
WORKDIR /app
COPY package.json package-lock.json ./
COPY packages/client/package.json packages/client/
RUN npm ci --no-audit --no-fund
COPY . .
# Pruned rather than installed again, so that nothing is compiled twice.
RUN npm run build && npm prune --omit=dev --workspaces=false --no-audit --no-fund

FROM node:24.21-bookworm-slim
LABEL org.opencontainers.image.title="Behalf" \
      org.opencontainers.image.description="Lets a LiveKit agent call your API on behalf of the user" \
      org.opencontainers.image.licenses="MIT"
ENV NODE_ENV=production HOST=0.0.0.0 PORT=8008
WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/drizzle drizzle
COPY --from=build /app/dist dist
# DATABASE_URL keeps its default, ./data: set in the image, it would be set beside a DATABASE_URL_FILE.
RUN mkdir /data && chown 1000:1000 /data && ln -s /data data
VOLUME /data
# The image's user "node", by number: Kubernetes' runAsNonRoot cannot look up a name.
USER 1000:1000
EXPOSE 8008
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT}/health/live`).then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
# Without a shell, so that SIGTERM reaches the service itself. Give it 20 seconds to stop.
CMD ["node", "dist/server.js"]
