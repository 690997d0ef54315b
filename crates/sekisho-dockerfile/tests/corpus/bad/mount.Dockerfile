FROM debian
# mistake: 5:5 unknown mount field `taget`
RUN echo fine && \
    true
RUN --mount=type=cache,taget=/x make
