"""The token-priority graph of the last token "the"."""

import attsvm
from attsvm.plots import token_priority_graph

story = "the cat sat on the mat and the dog sat on the cat and the mat sat on the dog and " * 3
data = attsvm.datasets.text(story, unit="word", context=10)
graph = attsvm.token_priority_graphs(data)[data.vocabulary.tolist().index("the")]
figure = token_priority_graph(graph, data.vocabulary)
