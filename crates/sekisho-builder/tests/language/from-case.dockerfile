FROM base AS Build
RUN echo x > /x
FROM scratch
COPY --from=BUILD /x /
# row: stage names know no case
# peers: buildkit-now
# want: tree x f644 0:0 x\n
