"""The token-priority graph of the last token "the"."""

import io

import matplotlib.pyplot as plt

import attsvm
from attsvm.plots import png, token_priority_graph

story = "the cat sat on the mat and the dog sat on the cat and the mat sat on the dog and " * 3
data = attsvm.datasets.text(story, unit="word", context=10)
graph = attsvm.token_priority_graphs(data)[data.vocabulary.tolist().index("the")]
drawn = token_priority_graph(graph, data.vocabulary)

# The drawing is a figure of its own; pyplot shows a picture of it.
figure = plt.figure(figsize=drawn.get_size_inches(), layout="none")
axes = figure.add_axes((0, 0, 1, 1))
axes.imshow(plt.imread(io.BytesIO(png(drawn))))
axes.axis("off")
