"""The SVMs whose solutions training converges to, solved with a certificate."""

from attsvm.svm.graph_svm import graph_svm
from attsvm.svm.problems import att_svm, diagonal_svm, general_svm, label_svm, prompt_svm
from attsvm.svm.selected_sets import selected_sets
from attsvm.svm.solution import SolverError, SVMSolution

__all__ = [
    "SVMSolution",
    "SolverError",
    "att_svm",
    "diagonal_svm",
    "general_svm",
    "graph_svm",
    "label_svm",
    "prompt_svm",
    "selected_sets",
]
