// The state of the page: the server's answers, and the user's choices.

export const state = {
  images: new Map(), // key → description by the server
  classes: [],
  colours: [], // [r, g, b] of the classes, used in turn
  maps: [], // names of the network's region maps
  chosen: {}, // class number → threshold that the user set
  learnt: {}, // class number → {threshold, expected} of the last run
  presence: 0,
  job: { running: false, done: 0, total: 0, error: "" },
  key: null, // key of the chosen image
  shown: null, // key of the image on the stage, which may still be the previous one
  opening: 0, // counter: answers for an earlier choice are ignored
  mask: null, // mask of the chosen image, once something is painted
  probabilities: null, // probabilities of the chosen image
  grown: null, // the mask with a grown stroke, shown before the user accepts it
  rough: false, // whether unpainted pixels of the next mask are unknown
  counts: {}, // class number → number of single objects in the chosen image; empty while unknown
  counting: 0, // counter: answers for an earlier state are ignored
  view: "mask",
  number: 1, // number of the class that is painted
  saves: new Map(), // key → {mask, dirty, timer, running}: masks that are not saved yet
};

/** The server's description of the chosen image. */
export const chosenImage = () => state.images.get(state.key);

/** Whether unpainted pixels of the chosen image are unknown. */
export const isRough = () => (state.mask ? state.mask.rough : state.rough);

/** The meaning of the brush without a class. */
export const nameOfOther = () => (isRough() ? "background" : "ignored");

export const nameOf = (number) => state.classes.find((one) => one.number === Number(number))?.name || nameOfOther();
