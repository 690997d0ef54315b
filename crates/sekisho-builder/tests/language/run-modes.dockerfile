FROM base
RUN echo x > /s && chmod 4755 /s && mkdir /t && chmod 1777 /t
# row: setuid and sticky
# peers: buildah buildkit
