FROM base
RUN echo x > /x
FROM scratch
COPY --from=0 /x /
# row: stages have numbers
# peers: buildah buildkit
