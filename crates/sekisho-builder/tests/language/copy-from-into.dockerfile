FROM base AS s
RUN mkdir -p /o/p && echo 1 > /o/p/f && chown -R app /o/p && chmod 750 /o/p
FROM base
RUN mkdir /d
COPY --from=s /o /d
COPY --from=s /o/p/f /d/
# row: COPY --from into a folder that is there
# peers: buildah buildkit
