# mistake: 2:1 ENV stands before the first FROM
ENV A=b
FROM debian
