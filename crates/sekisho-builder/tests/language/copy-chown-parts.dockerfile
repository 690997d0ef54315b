FROM base
COPY --chown=:app a.txt /group
COPY --chown=app: a.txt /user
USER :app
RUN id -u > /tmp/o && id -g >> /tmp/o && cat /tmp/o > /etc/sub/ids || true
# row: --chown and USER with one of both
# peers: buildah buildkit-now
# want: tree group f644 0:2345 a
# want: tree user f644 1234:2345 a
