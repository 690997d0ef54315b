FROM base AS s
RUN mkdir /k && echo x > /k/a && ln /k/a /k/b && ln -s a /k/l
FROM scratch
COPY --from=s /k /k
# row: COPY --from keeps links
# peers: buildah buildkit
