FROM base AS a
RUN echo 1 > /f && mkdir /d && echo 2 > /d/g
FROM a AS b
RUN rm -r /f /d && mkdir /d
FROM scratch
COPY --from=b /d /d
COPY --from=b /etc /etc
# row: whiteouts across stages
# peers: buildah buildkit
