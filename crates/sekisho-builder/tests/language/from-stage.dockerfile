FROM base AS one
ENV A=1
RUN echo x > /x
FROM one
RUN echo $A > /y
# row: FROM stage
# peers: buildah buildkit
# want: tree y f644 0:0 1\n
