module forebay/test/bench

go 1.26.3
