"""Streams of video on a GPU: engines that decode and encode beside a network that looks at the frames."""
