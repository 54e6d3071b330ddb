"""MVTec AD under the short name that `--data MVTec` asks for."""

from urllib.error import URLError

from anomalib.data import MVTecAD
from anomalib.data.datasets.image.mvtecad import CATEGORIES


class MVTec(MVTecAD):
    """MVTec AD: the arguments, the defaults and the download of :class:`anomalib.data.MVTecAD`.

    Example:
        >>> MVTec(category="screw").name
        'MVTecAD'
    """

    @property
    def name(self) -> str:
        """The data set's own name, so that results lie where those of ``--data MVTecAD`` do."""
        return "MVTecAD"

    def prepare_data(self) -> None:
        """Download MVTec AD where the category has no folder.

        Raises:
            FileNotFoundError: If the category has no folder and is none of MVTec AD's: no download would bring it.
            ConnectionError: If the download fails.
        """
        folder = self.root / self.category
        advice = "`--data.root` is the folder that holds the categories, `--data.category` one of them."
        if not folder.is_dir() and self.category not in CATEGORIES:
            raise FileNotFoundError(f"There is no folder {folder}, and MVTec AD has no such category. {advice}")
        try:
            super().prepare_data()
        except URLError as error:
            msg = f"There is no folder {folder}, and MVTec AD cannot be downloaded: {error.reason}. {advice}"
            raise ConnectionError(msg) from error
