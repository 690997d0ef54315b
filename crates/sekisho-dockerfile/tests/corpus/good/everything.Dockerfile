# check=skip=JSONArgsRecommended;error=true
# stages: Base, test, final
arg BASE=debian
arg TAG=${BASE}-12 EMPTY
from ${BASE:-alpine}:${TAG#*-} as Base
maintainer someone <someone@example.com>
label org.example.title="a b" org.example.version=1 \
      "quoted key"='single'
env PATH=/opt/bin:$PATH LANG=C.UTF-8
env OLD form of env
volume ["/data", "/with blank"]
volume /one /two
expose 80 443/udp 9000-9010
stopsignal SIGQUIT
healthcheck --interval=30s --timeout=1.5s --start-period=1m --start-interval=5s --retries=3 \
  CMD curl -f http://localhost/ || exit 1
onbuild copy --from=tools /bin/tool /bin/
onbuild run --mount=type=secret,id=token,required=true make

FROM base AS test
# a comment

RUN --network=none --security=sandbox make \
# between lines
    test \
    && true
HEALTHCHECK NONE

FROM base AS final
ADD --checksum=sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 \
    https://example.com/a.tar.gz /tmp/
ADD --keep-git-dir=true https://example.com/repo.git#main:sub /src
COPY --link --parents --exclude=**/*.o --exclude=.git ./a/./b c* /dst/
COPY --from=test --chmod=u+x,go-w /out /out
COPY ["with blank", "/dst/with blank/"]
RUN --mount=type=ssh --mount=type=tmpfs,target=/tmp,size=64m git clone git@example.com:a/b
RUN ["/bin/sh", "-c", "echo \"$HOME\""]
WORKDIR relative/path
USER app:app
CMD ["serve"]
